"""A Keras side whose model is saved and loaded before it trains."""

from compare.explain.keras_observer import side
from compare.explain.keras_observer.follower import reloaded
from compare.explain.keras_observer.model import Program

ACTIONS = side.ACTIONS


class Side(side.Side):
    """As `side.Side`, with every model of the user's from a file."""

    def _program(self) -> Program:
        program = super()._program()
        return Program(reloaded(program.make), *list(vars(program).values())[1:])
