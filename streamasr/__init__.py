"""streamasr: real-time English speech recognition that listens all day on a CPU.

The folders are the data flow, in reading order::

    microphone / file / standard input          websocket speaker
              |  capture/                             |  wire/, serve/
              +---------------- samples --------------+
                                   |
                    engine.py      steps every stream on one worker
                    recognizer.py  Recognizer (shared) and Stream (one listener)
                                   |
        frontend/   samples -> log-mel frames
        acoustic/   frames -> log-probabilities (unidirectional GRU + CTC)
        decoder/    log-probabilities -> words (lexicon, beam search, KenLM, endpoints)
                                   |
                                events.py
                                   |
              +--------------------+--------------------+
        serve/ (viewers)     client/, captions/ (a viewer)     history.py

``daemon.py`` is the run that holds them together; ``doctor/`` finds what keeps it from working and
``soak/`` what ages. ``training/`` is the workshop: nothing that runs all day imports it. Imports
point down only; DESIGN.md names the floors and ``make check`` holds them.
"""

__version__ = "0.1.0"
