"""The commands: one module each, with a function of the module's name, imported when the command is called."""
