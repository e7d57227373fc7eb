"""``streamasr doctor``: what keeps the daemon from working, each with the command that mends it.

Every check is a function from the settings to findings. It imports what it looks at only then,
so that a broken package is a finding, too.
"""
