"""The learner: environment, network, replay, training loop, bundles. torch from here up only."""
