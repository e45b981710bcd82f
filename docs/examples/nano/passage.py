class Stack:
    """A last-in, first-out list of items."""

    def __init__(self, items=None):
        self.items = list(items or [])

    def push(self, item):
        self.items.append(item)

    def pop(self):
        if not self.items:
            raise IndexError("pop from an empty stack")
        return self.items.pop()

    def __len__(self):
        return len(self.items)


def balanced(text):
    """Whether every bracket in the text is closed by its partner."""
    pairs = {")": "(", "]": "[", "}": "{"}
    stack = Stack()
    for character in text:
        if character in pairs.values():
            stack.push(character)
        elif character in pairs:
            if not len(stack) or stack.pop() != pairs[character]:
                return False
    return len(stack) == 0
