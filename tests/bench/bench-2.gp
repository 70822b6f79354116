# The plots of make bench-2, drawn in the folder of its data. The colours are
# three of Okabe and Ito's, which the colour-blind can tell apart; each line has
# a mark of its own, too.
set terminal svg size 760,440 font "Helvetica,Arial,sans-serif,15" background "white"
set datafile missing "-"
set border 3
set tics nomirror out
set grid ytics linecolor rgb "#dddddd" linetype 1
set rmargin 10
set style line 1 linecolor rgb "#d55e00" linewidth 2 pointtype 5
set style line 2 linecolor rgb "#0072b2" linewidth 2 pointtype 7
set style line 3 linecolor rgb "#009e73" linewidth 2 pointtype 9
set style data linespoints
set logscale x
set yrange [0:*]

set output "02-cost-idle.svg"
set title "The cost of a request against idle connections"
set xlabel "idle connections, besides 64 active ones (log scale)"
set ylabel "CPU time of the server per request (µs)"
set xtics ("0" 64, "100" 164, "900" 964, "9,000" 9064)
set key off
plot [64:9064] \
    "02-cost-idle.dat" using ($1 + 64):2 linestyle 1 title "  select" at end, \
    "" using ($1 + 64):3 linestyle 2 title "  poll" at end, \
    "" using ($1 + 64):4 linestyle 3 title "  epoll" at end

set output "02-throughput.svg"
set title "Requests per second against active connections"
set xlabel "active connections (log scale)"
set ylabel "requests per second, in thousands"
set xtics (1, 4, 16, 64, 256, 900)
set key bottom center samplen 3 spacing 1.2
plot [1:900] \
    "02-throughput.dat" using 1:($2 / 1000) linestyle 1 title "select", \
    "" using 1:($3 / 1000) linestyle 2 title "poll", \
    "" using 1:($4 / 1000) linestyle 3 title "epoll"
