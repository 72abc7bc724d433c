"""`python -m keras_bert_zoo`: the command line, where its script is not on the PATH."""

import sys

from keras_bert_zoo.cli.main import main

sys.exit(main())
