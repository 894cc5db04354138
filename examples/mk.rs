fn main() {
    let p = std::env::args().nth(1).unwrap();
    let o = seawall::Options::new().segment_size(16 << 10);
    let w = o.open(&p).unwrap();
    for i in 0..113u32 {
        let l = w.append(&vec![i as u8; 300][..]).unwrap().wait().unwrap();
        if i == 60 {
            if std::env::args().nth(2).is_some() {
                w.clean_before_lsn(l).unwrap();
            }
        }
    }
    w.close().unwrap();
}
