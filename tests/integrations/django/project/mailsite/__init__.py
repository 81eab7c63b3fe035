"""The site that the tests of the Django integration run, in their process and under real servers."""
