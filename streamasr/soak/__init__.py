"""A day of audio through the real daemon, faster than it sounds: ``streamasr soak``.

::

    programme.py  hour after hour of a home's sounds, pushed into standard input
    watched.py    the daemon: a process of its own, seen through /metrics and /proc
    guests.py     a viewer that stays, others that come and go, speakers
    yardstick.py  how fast the machine is at the moment
    figures.py    a row for every hour, and what must hold of them
    run.py        all of it together
"""
