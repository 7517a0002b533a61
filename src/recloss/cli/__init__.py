"""How is it called? The subcommands of `recloss`, a module each."""
