"""Say what mail is: addresses, messages, folders, threads. No clock, loop, Ray or database."""
