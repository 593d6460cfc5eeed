"""What was measured on real smartphones, as histograms.

Source: the STUNner campaign of the University of Szeged: Szabo, Teglas, Berta, Jelasity, Bilicki, "Stunner: A Smart
Phone Trace for Developing Decentralized Edge Systems", DAIS 2019 (earlier: Berta, Bilicki, Jelasity, P2P 2014), as
published in the histograms of ``arppy/stunner_preprocessor`` (``present/``).

Neighbours: ``churn`` draws days from them, ``network`` set-up delays.
Invariants: the counts are as published; bins are whole percents and whole seconds, rounded down (so that the stated
median and 90th percentile come out); evenly within a bin is this module's assumption.
"""

from protocol.simulation.distributions import Histogram

# User-days that were online 0, 1, 2, ... 100 whole percent of the day.
# fmt: off
_USER_DAYS = (
    14006, 8837, 7776, 6857, 6254, 5667, 4669, 4122, 3797, 3178, 2817, 2704, 2268, 2156, 1987, 1915, 1877, 1852, 1740,
    1824, 1708, 1640, 1652, 1678, 1509, 1426, 1395, 1328, 1330, 1210, 1041, 972, 938, 819, 816, 751, 649, 606, 511,
    441, 437, 396, 352, 308, 315, 272, 239, 206, 185, 180, 166, 127, 142, 122, 128, 117, 97, 82, 94, 84, 77, 194, 80,
    71, 49, 56, 49, 53, 52, 63, 56, 30, 49, 51, 42, 39, 34, 30, 35, 33, 28, 37, 52, 49, 44, 45, 51, 52, 29, 19, 31,
    27, 15, 31, 37, 41, 60, 84, 148, 110, 514,
)
# Set-ups of a direct channel between two phones: whole seconds, reports of success, reports of failure.
_SETUP_SECONDS = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
    31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58,
    59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86,
    87, 88, 89, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111,
    112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 129, 131, 132, 134, 135, 136, 138, 149,
    185, 611, 2069, 7712, 39800, 50829, 79251, 136720,
)
_SETUP_SUCCEEDED = (
    0, 50, 17577, 33570, 33156, 20139, 22914, 23741, 18893, 12855, 10365, 8028, 5811, 3379, 2205, 3280, 4060, 3216,
    2094, 1645, 1451, 1054, 733, 472, 373, 239, 216, 169, 134, 99, 99, 212, 356, 157, 188, 235, 214, 117, 92, 122,
    108, 63, 58, 52, 36, 46, 46, 38, 26, 33, 19, 24, 32, 26, 16, 22, 14, 13, 15, 15, 9, 9, 5, 5, 1, 2, 2, 3, 1, 0, 2,
    1, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
)
_SETUP_FAILED = (
    2465, 1112, 1558, 1179, 1427, 2629, 2343, 1836, 1638, 1576, 13830, 87048, 14618, 17017, 4039, 1856, 12959, 13640,
    11321, 12960, 12716, 8394, 5976, 3981, 2397, 5232, 7936, 5481, 3760, 4048, 3333, 2303, 1595, 1237, 1135, 1518,
    1278, 862, 631, 589, 507, 466, 412, 379, 331, 311, 305, 311, 324, 318, 336, 291, 288, 336, 369, 466, 697, 1130,
    1669, 1918, 2522, 8321, 1463, 531, 337, 375, 382, 215, 206, 225, 901, 249, 106, 78, 81, 101, 64, 85, 95, 81, 125,
    101, 54, 32, 47, 23, 31, 18, 18, 13, 17, 8, 8, 13, 10, 14, 1, 5, 8, 8, 8, 13, 6, 14, 5, 8, 3, 7, 1, 1, 8, 6, 1, 4,
    2, 2, 2, 3, 4, 4, 1, 4, 1, 2, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
)
# fmt: on

ONLINE_PERCENT_OF_DAY = Histogram(tuple(map(float, range(101))), _USER_DAYS, width=1.0)
"""Percent of a day that a phone is online, over 115,419 user-days.  Online: connected, NAT not blocking, on a charger;
gaps over 13 minutes count as offline; days never online are left out.  Mean 13.8, median 7.9, 90th percentile 32.7."""
GAP_S = 13 * 60.0
"""The shortest time that the campaign counted as offline."""
SETUP_SUCCEEDED_S = Histogram(tuple(map(float, _SETUP_SECONDS)), _SETUP_SUCCEEDED, width=1.0)
"""Seconds until a direct WebRTC channel without relay stood: 234,455 reports, of both ends; median 6.6, 90th percentile
14.2."""
SETUP_FAILED_S = Histogram(tuple(map(float, _SETUP_SECONDS)), _SETUP_FAILED, width=1.0)
"""Seconds until a set-up was given up: 309,720 reports; median 15.3, a few of hours."""
SETUP_SUCCESS_SHARE = sum(_SETUP_SUCCEEDED) / (sum(_SETUP_SUCCEEDED) + sum(_SETUP_FAILED))
"""The share of reports that tell of success: 0.431."""
