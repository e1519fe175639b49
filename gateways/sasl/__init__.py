"""Say who somebody is: the server sides of SASL mechanisms (RFC 4422), for every protocol."""
