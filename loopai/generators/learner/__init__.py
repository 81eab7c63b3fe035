"""Models learnt from many examples, written as Python: weights of words, trees. scikit-learn is needed from here on."""
