// Distances on the globe between the towns that time zones are named after: the two that are closest, the two that are
// farthest from each other, and for each the nearest other one.
//
//     distances zones.tab nearest.tsv
use std::fmt::Write as _;
use std::fs;

/// The Earth's mean radius, in kilometres.
const RADIUS_KM: f64 = 6_371.0088;

struct Town {
    zone: String,
    /// In radians.
    latitude: f64,
    longitude: f64,
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, source, target] = &arguments[..] else {
        eprintln!("usage: distances zones.tab nearest.tsv");
        std::process::exit(2);
    };
    if let Err(why) = run(source, target) {
        eprintln!("{why}");
        std::process::exit(1);
    }
}

fn run(source: &str, target: &str) -> Result<(), String> {
    let text = fs::read_to_string(source).map_err(|error| format!("{source}: {error}"))?;
    let towns = text.lines().filter(|line| !line.starts_with('#')).map(town).collect::<Result<Vec<_>, _>>()?;
    let pairs: Vec<_> = (0..towns.len()).flat_map(|one| (0..one).map(move |other| (one, other))).collect();
    let mut by_distance: Vec<_> = pairs.iter().map(|(one, other)| (distance(&towns[*one], &towns[*other]), *one, *other)).collect();
    by_distance.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (closest, farthest) = (by_distance.first().ok_or("no towns")?, by_distance.last().ok_or("no towns")?);
    println!("{} towns, {} pairs", towns.len(), pairs.len());
    for (word, (km, one, other)) in [("closest ", closest), ("farthest", farthest)] {
        println!("{word} {km:9.3} km  {} and {}", towns[*other].zone, towns[*one].zone);
    }
    let mut table = String::new();
    for (at, town) in towns.iter().enumerate() {
        let nearest = by_distance.iter().find(|(_, one, other)| *one == at || *other == at);
        let (km, one, other) = nearest.ok_or("only one town")?;
        let neighbour = if *one == at { *other } else { *one };
        let _ = writeln!(table, "{}\t{}\t{km:.3}", town.zone, towns[neighbour].zone);
    }
    fs::write(target, table).map_err(|error| format!("{target}: {error}"))
}

/// A line of the table: countries, coordinates, zone, comments.
fn town(line: &str) -> Result<Town, String> {
    let mut fields = line.split('\t').skip(1);
    let (Some(place), Some(zone)) = (fields.next(), fields.next()) else { return Err(format!("no zone in {line:?}")) };
    let split = place[1..].find(['+', '-']).ok_or_else(|| format!("no coordinates in {line:?}"))? + 1;
    let (latitude, longitude) = (angle(&place[..split], 2), angle(&place[split..], 3));
    let wrong = || format!("no coordinates in {line:?}");
    Ok(Town { zone: zone.to_owned(), latitude: latitude.ok_or_else(wrong)?, longitude: longitude.ok_or_else(wrong)? })
}

/// ISO 6709: a sign, degrees in so many digits, minutes, perhaps seconds.
fn angle(text: &str, degrees: usize) -> Option<f64> {
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<f64>().ok();
    let (whole, minutes) = (number(1, 1 + degrees)?, number(1 + degrees, 3 + degrees)?);
    let seconds = number(3 + degrees, 5 + degrees).unwrap_or(0.0);
    Some((sign * (whole + minutes / 60.0 + seconds / 3600.0)).to_radians())
}

/// Along the great circle, by the haversine formula.
fn distance(one: &Town, other: &Town) -> f64 {
    let half_chord = |a: f64, b: f64| ((a - b) / 2.0).sin().powi(2);
    let h = half_chord(one.latitude, other.latitude)
        + one.latitude.cos() * other.latitude.cos() * half_chord(one.longitude, other.longitude);
    2.0 * RADIUS_KM * h.sqrt().min(1.0).asin()
}
