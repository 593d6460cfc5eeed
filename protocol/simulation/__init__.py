"""The laboratory: the same protocol code under virtual time, in networks of any size and with faults of any kind.

Modules, lower ones first:

- ``streams``: independent random streams, named by a seed and labels
- ``plain``: reading plain data (as a TOML file gives it), every mistake a sentence
- ``distributions``: named distributions, their samplers
- ``figures``: what was measured on real smartphones, with its source
- ``network_model``: parameters of a network, presets;  ``network``: delay, loss, bandwidth, set-up, partitions
- ``sessions``: what a model of churn is;  ``traces``: texts that say who was online when;  ``phones``: smartphones;
  ``churn``: all models, by name
- ``faults``: what is broken on purpose, and when
- ``sizes``, ``standins``, ``application``, ``costs``, ``identities``: what stands in for the world outside;
  ``lives``: peers;  ``world``: them all under one clock
- ``scenario``: all that a run is made of;  ``measures``: what is counted;  ``run``: from a scenario and a seed to
  figures;  ``trace``: one line for every step
- ``invariants``: what must hold of every world;  ``mishaps``, ``randomworlds``: small worlds in all kinds of trouble
"""
