//! Clients at the end of simulated links, in simulated time.

mod audiences;
mod budget;
mod ends;
mod foreseen;
mod hiding;
mod interpolation;
mod joining;
mod networks;
mod predicted_rules;
mod prediction;
mod predictions_in_quiet;
mod resume;
mod seats;
mod secrecy;
mod seen;
mod stalls;
