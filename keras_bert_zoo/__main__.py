"""Runs the command line with `python -m keras_bert_zoo`, if its script is not on the PATH."""

import sys

from keras_bert_zoo.cli.main import main

sys.exit(main())
