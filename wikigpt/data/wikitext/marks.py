"""Marks of our own that stand in a page between two steps: characters that XML cannot hold, so that no dump does."""

OPEN, CLOSE = "\x01", "\x02"  # around the number of what was set aside
HOLE = "\x03"  # something was cut out here
BREAK = "\x04"  # a line ends here, whatever the layout does with lines
EQUALS, BAR = "\x05", "\x06"  # = and | that a template showed, inside another one
MARKS = (OPEN, CLOSE, HOLE, BREAK, EQUALS, BAR)
# The digits of that number, which no rule for digits touches.
HIDDEN = {ord("0") + digit: 0x0E + digit for digit in range(10)}
SHOWN = {hidden: digit for digit, hidden in HIDDEN.items()}
DEEPEST = 60  # templates, links or tables within one another; MediaWiki itself stops at 40
