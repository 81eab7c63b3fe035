"""An application of the tests, with rows of each kind of primary key."""
