"""The laboratory's commands and what they need of the machine: processes, files, reports.

Modules: ``worlds`` runs random worlds on all cores.
"""
