"""Causes of a difference between a user's two models: which are proposed, and the counterfactual of each."""
