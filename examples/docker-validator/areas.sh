# Estimates areas by throwing points at the unit square, with other chance each time, and writes them in any order.
seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
awk -v seed="$seed" 'BEGIN {
    srand(seed)
    for (i = 0; i < 20000; i++) {
        x = rand(); y = rand()
        circle += x * x + y * y < 1
        parabola += y < x * x
        triangle += y < x
    }
    print "circle", 4 * circle / i
    print "parabola", parabola / i
    print "triangle", triangle / i
}' | shuf >/out/areas.txt
echo "seed $seed"
