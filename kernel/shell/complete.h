// What Tab does. Context: thread.
#pragma once

struct line;

// Completes the word before the cursor as far as it is certain; when it is not, lists what it could
// be.
void complete_line(struct line *line);
