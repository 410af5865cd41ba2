"""The console command ``zoo``: one module per subcommand, ``main`` puts them together."""
