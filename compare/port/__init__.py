"""The command `port`: a Keras model as PyTorch code, a PyTorch module as Keras code, proved. Called, it does so."""

from compare.callable_package import make_callable

make_callable(__name__)
