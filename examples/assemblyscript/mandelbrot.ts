// Draws a part of the Mandelbrot set in letters: COLUMNS wide, around (X, Y), WIDTH across.
//
//     mandelbrot COLUMNS X Y WIDTH

const SHADES = " .,:;irsXA253hMHGS#9B&@";
const LIMIT = 2_000;
// A letter is about twice as high as it is wide.
const ASPECT = 2.0;

/** Steps until the orbit of a point has left the circle, or the limit. */
function steps(x: f64, y: f64): i32 {
  let re = 0.0, im = 0.0;
  for (let step = 0; step < LIMIT; step++) {
    const square = re * re - im * im + x;
    im = 2.0 * re * im + y;
    re = square;
    if (re * re + im * im > 4.0) return step;
  }
  return LIMIT;
}

function shade(count: i32): string {
  if (count == LIMIT) return " ";
  const depth = Math.log(1.0 + <f64>count) / Math.log(<f64>LIMIT);
  return SHADES.charAt(1 + <i32>(depth * <f64>(SHADES.length - 1)));
}

function draw(columns: i32, x: f64, y: f64, width: f64): void {
  const pixel = width / <f64>columns;
  const rows = columns / 3;
  for (let row = 0; row < rows; row++) {
    let line = "";
    const up = (<f64>rows / 2.0 - <f64>row) * pixel * ASPECT;
    for (let column = 0; column < columns; column++) {
      const right = (<f64>column - <f64>columns / 2.0) * pixel;
      line += shade(steps(x + right, y + up));
    }
    console.log(line.trimEnd());
  }
}

const words = process.argv;
if (words.length != 5) {
  console.error("usage: mandelbrot COLUMNS X Y WIDTH");
  process.exit(1);
}
const columns = I32.parseInt(words[1]);
if (columns < 1 || columns > 1_000) {
  console.error("COLUMNS must be between 1 and 1000");
  process.exit(1);
}
draw(columns, parseFloat(words[2]), parseFloat(words[3]), parseFloat(words[4]));
