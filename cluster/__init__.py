"""Say who runs where: composition root, command line, settings, supervisors."""
