// When Easter Sunday is, by the Gregorian calendar: a module that others import.

/** Day and month of Easter Sunday, as `100 * month + day` (Anonymous Gregorian algorithm, Nature 1876). */
export function easter(year: i32): i32 {
  const golden = year % 19;
  const century = year / 100;
  const rest = year % 100;
  const correction = (century + 8) / 25;
  const moon = (century - correction + 1) / 3;
  const epact = (19 * golden + century - century / 4 - moon + 15) % 30;
  const weekday = (32 + 2 * (century % 4) + 2 * (rest / 4) - epact - (rest % 4)) % 7;
  const late = (golden + 11 * epact + 22 * weekday) / 451;
  const days = epact + weekday - 7 * late + 114;
  return 100 * (days / 31) + (days % 31) + 1;
}
