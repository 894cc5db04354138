#!/bin/bash -eu
# Puts each fuzz target into $OUT, with its seeds, the dictionary and the options of scripts/soak.
cd "$SRC/seawall"
cargo fuzz build -O
mapfile -t targets < <(sed -n 's/^name = "\([a-z]*\)"$/\1/p' fuzz/Cargo.toml)
for target in "${targets[@]}"; do
    cp "$(echo fuzz/target/*/release/"$target")" "$OUT/"
    zip -qjr "$OUT/${target}_seed_corpus.zip" "fuzz/seeds/$target"
    cp fuzz/dictionary "$OUT/$target.dict"
    printf '[libfuzzer]\nmax_len = 1024\nmalloc_limit_mb = 16\n' >"$OUT/$target.options"
done
