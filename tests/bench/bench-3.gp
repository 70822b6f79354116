# The plot of make bench-3, drawn in the folder of its data, in the colours of
# bench-2.gp: beside each bar of app-server, what an answer takes at least.
set terminal svg size 760,440 font "Helvetica,Arial,sans-serif,15" background "white"
set border 3
set tics nomirror out
set grid ytics linecolor rgb "#dddddd" linetype 1
set style fill solid 1 noborder
set bmargin 4
set boxwidth 0.35
set yrange [0:*]

# "search, kept alive", under its bars
two_lines(text) = text[1:strstrt(text, ",")] . "\n" . \
    text[strstrt(text, ",") + 2:*]

set output "03-cost.svg"
set title "What an answer costs, beside what it costs at least"
set ylabel "CPU time of the server per request (µs)"
set xrange [-0.6:3.6]
set key top right samplen 2 spacing 1.2
plot \
    "03-cost.dat" using ($0 - 0.2):2:xtic(two_lines(strcol(1))) with boxes linecolor rgb "#d55e00" \
    title "app-server", \
    "" using ($0 + 0.2):($3 + $4) with boxes linecolor rgb "#009e73" \
    title "Jansson alone", \
    "" using ($0 + 0.2):3 with boxes linecolor rgb "#0072b2" title "bare loop"
