# Prints the goals of a Makefile that carry a comment "## what it does".
/^##@ / { printf "%s%s\n", (NR > 1 && seen++ ? "\n" : ""), substr($0, 5) }
/^[a-z0-9%-]+:.*## / {
    split($0, part, /:.*## /)
    sub("%", "N.M", part[1])
    printf "  make %-12s %s\n", part[1], part[2]
}
