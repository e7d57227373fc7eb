"""Where sound enters: microphone, files, standard input."""
