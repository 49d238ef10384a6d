"""What a sample is: how it is stored, where it lies, and the interface of what turns it into the codec's input."""
