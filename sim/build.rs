//! Shows our `getrandom` to those who look it up by name at run time, as the crate of that name does.

fn main() {
    println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol=getrandom");
}
