raise RuntimeError("\x1b[2J\x07red\nand a second line\u202e")
