"""Runs what jobs.ini names."""

import configparser
import importlib
from pathlib import Path

CONFIG = Path(__file__).resolve().parent.parent / "jobs.ini"


def resolve(name):
    config = configparser.ConfigParser()
    config.read_string(CONFIG.read_text(encoding="utf-8"))
    module, _, function = config["jobs"][name].partition(":")
    return getattr(importlib.import_module(module), function)


def run(name, **arguments):
    return resolve(name)(**arguments)
