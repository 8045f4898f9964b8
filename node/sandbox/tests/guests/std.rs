// What a plain Rust program uses of its standard library.
use std::{
    collections::{BTreeMap, HashMap},
    env, fs,
    io::{self, Read, Write},
    thread,
    time::{Duration, Instant, SystemTime},
};

fn main() {
    println!("{:?} {}", env::args().collect::<Vec<_>>(), env::var("MSM_PARAM_RADIUS").unwrap());
    let mut input = String::new();
    io::stdin().read_to_string(&mut input).unwrap();
    // A map whose order is random elsewhere.
    let mut counts = HashMap::new();
    for word in input.split(' ') {
        *counts.entry(word).or_insert(0) += 1;
    }
    for (word, count) in counts.into_iter().collect::<BTreeMap<_, _>>() {
        println!("{} {}", word, count);
    }
    print!("{}", fs::read_to_string("/assets/words.txt").unwrap());
    let names: Vec<_> = fs::read_dir("/assets").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    println!("{:?}", names);
    let is_kind = |path: &str, kind| fs::File::open(path).map_err(|error| error.kind()).err() == Some(kind);
    println!(
        "{} {} {}",
        is_kind("/assets/none", io::ErrorKind::NotFound),
        fs::File::create("/assets/new").is_err(),
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() < Duration::from_secs(1),
    );
    let started = Instant::now();
    thread::sleep(Duration::from_secs(5));
    println!("slept {}s", started.elapsed().as_secs());
    writeln!(io::stderr(), "a line for the log").unwrap();
}
