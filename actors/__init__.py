"""Say who owns what: mailbox, directory, router, push."""
