"""The command `keras-bert-zoo`: one file per subcommand."""
