"""Stand-ins for pandas' Series and DataFrame, with what of their protocols matters here.

pandas is not a dependency of the tests. tools and users have it: a Series is read by its index with
[], by position with an iterator; a DataFrame's iterator gives the names of its columns.
"""

import numpy as np


class NAType:
    """pandas.NA: comparing it gives NA, which is neither true nor false."""

    def __eq__(self, other):
        return self

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = object.__hash__

    def __repr__(self):
        return "<NA>"


NA = NAType()


class Series:
    """Values with an index that need not begin at 0."""

    def __init__(self, values, first=5):
        self.values = list(values)
        self.index = range(first, first + len(self.values))

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return iter(self.values)

    def __getitem__(self, label):
        if label not in self.index:
            raise KeyError(label)
        return self.values[self.index.index(label)]

    def to_numpy(self):
        return np.array(self.values, object)


class DataFrame:
    """Columns by name."""

    def __init__(self, columns):
        self.columns = list(columns)
        self._values = columns

    def __len__(self):
        return len(next(iter(self._values.values())))

    def __iter__(self):
        return iter(self.columns)

    def __getitem__(self, name):
        return Series(self._values[name])

    def to_numpy(self):
        return np.array(list(self._values.values()), object).T

    def __getattr__(self, name):
        if name.startswith("_") or name not in self._values:
            raise AttributeError(name)
        return self[name]
