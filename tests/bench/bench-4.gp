# The plot of make bench-4, drawn in the folder of its data, in the colours of
# bench-3.gp: the handshakes, and beside them, on a scale of its own, a request.
set terminal svg size 760,440 font "Helvetica,Arial,sans-serif,15" background "white"
set datafile missing "-"
set border 3
set tics nomirror out
set grid ytics linecolor rgb "#dddddd" linetype 1
set style data histograms
set style histogram clustered gap 1
set style fill solid 1 noborder
set bmargin 4
set tmargin 4
set yrange [0:*]

# "a request, kept alive", under its bars
two_lines(text) = text[1:strstrt(text, ",")] . "\n" . \
    text[strstrt(text, ",") + 2:*]

set output "04-cost.svg"
set multiplot title "What TLS costs, beside a bare loop and proxies before app-server"
set size 0.64,0.93
set origin 0,0
set ylabel "CPU time of the server (µs)"
set key above maxrows 2 samplen 2 width 1
plot "04-cost.dat" every ::0::1 using 2:xtic(two_lines(strcol(1))) linecolor rgb "#d55e00" title "tls-app-server", \
    "" every ::0::1 using 3 linecolor rgb "#0072b2" title "bare loop", \
    "" every ::0::1 using 4 linecolor rgb "#009e73" title "nginx", \
    "" every ::0::1 using 5 linecolor rgb "#cc79a7" title "haproxy", \
    "" every ::0::1 using 6 linecolor rgb "#999999" title "stunnel"
set size 0.36,0.93
set origin 0.64,0
unset ylabel
unset key
plot "04-cost.dat" every ::2::2 using 2:xtic(two_lines(strcol(1))) linecolor rgb "#d55e00", \
    "" every ::2::2 using 3 linecolor rgb "#0072b2", \
    "" every ::2::2 using 4 linecolor rgb "#009e73", \
    "" every ::2::2 using 5 linecolor rgb "#cc79a7", \
    "" every ::2::2 using 6 linecolor rgb "#999999"
unset multiplot
