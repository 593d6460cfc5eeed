"""The embedded figures say what their source says of them."""

from protocol.simulation.figures import (
    ONLINE_PERCENT_OF_DAY,
    SETUP_FAILED_S,
    SETUP_SUCCEEDED_S,
    SETUP_SUCCESS_SHARE,
)


def test_online_share_of_a_day() -> None:
    assert sum(ONLINE_PERCENT_OF_DAY.weights) == 115_419
    assert round(ONLINE_PERCENT_OF_DAY.mean, 1) == 13.8
    assert round(ONLINE_PERCENT_OF_DAY.quantile(0.5), 1) == 7.9
    assert round(ONLINE_PERCENT_OF_DAY.quantile(0.9), 1) == 32.7


def test_set_up_of_a_channel() -> None:
    assert sum(SETUP_SUCCEEDED_S.weights) == 234_455
    assert sum(SETUP_FAILED_S.weights) == 309_720
    assert round(SETUP_SUCCESS_SHARE, 3) == 0.431
    assert round(SETUP_SUCCEEDED_S.quantile(0.5), 1) == 6.6
    assert round(SETUP_SUCCEEDED_S.quantile(0.9), 1) == 14.2
    assert round(SETUP_FAILED_S.quantile(0.5), 1) == 15.3
    assert SETUP_FAILED_S.quantile(1 - 1e-6) > 3600
