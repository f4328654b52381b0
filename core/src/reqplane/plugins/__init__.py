"""Finds, loads, checks and names plugins; every complaint about a plugin is made here.

    entry point ─► looked up by name ─► imported ─► registered ─► asked the questions ─► answers checked
              PluginNotFound, PluginConflict   "import"     "hooks"                 "contract"

    chosen class ─► opened, or made: "open"

The words in quotes are the stages of a PluginBroken.  Two groups of entry points are read:
`reqplane.transports` by name, so that a broken plugin nobody chose hurts nobody, and
`reqplane.extensions` whole, but for those in DYN_DISABLED_EXTENSIONS.  Each plugin is asked through a
plugin manager of its own, so it is always known who answered.

    kinds      what a plugin can offer, and what is known of one
    finding    entry points, by name
    asking     one plugin: imported, registered, asked, its answers checked
    choosing   what the settings name, out of all answers; the errors for what is not there
    loading    all of it for a runtime, and opening what was chosen
    listing    all of it for people, where nothing is raised
"""

from reqplane.plugins.choosing import installs
from reqplane.plugins.finding import installed
from reqplane.plugins.kinds import (
    CODEC,
    DISCOVERY,
    POLICY,
    REQUEST_PLANE,
    RESPONSE,
    RESPONSE_PLANE,
    Found,
    Kind,
    Offer,
)
from reqplane.plugins.listing import list_plugins, offered
from reqplane.plugins.loading import Plugins, load_discovery, load_plugins, open_plugin

__all__ = [
    "CODEC",
    "DISCOVERY",
    "POLICY",
    "REQUEST_PLANE",
    "RESPONSE",
    "RESPONSE_PLANE",
    "Found",
    "Kind",
    "Offer",
    "Plugins",
    "installed",
    "installs",
    "list_plugins",
    "load_discovery",
    "load_plugins",
    "offered",
    "open_plugin",
]
