# help.awk - `make help`, from the comments in the Makefile:
#   "## Heading:" starts a list, "target: ... ## text" and "NAME ?= default# ## text" are its lines.

FNR == 1 && NR == 1 { print "tophalf: a kernel about interrupts, bottom halves and DMA\n" }

/^## / { print substr($0, 4); next }

/^[A-Z_]+ *\?=.*## / {
    text = $0
    sub(/.*## */, "", text)
    default_value = $0
    sub(/^[A-Z_]+ *\?= */, "", default_value)
    sub(/ *#.*/, "", default_value)
    printf "  %-13s %s%s\n", $1, text, default_value == "" ? "" : " [" default_value "]"
}

/^[a-z-]+:.*## / {
    text = $0
    sub(/.*## */, "", text)
    target = $1
    sub(/:.*/, "", target)
    printf "  %-13s %s\n", target, text
}
