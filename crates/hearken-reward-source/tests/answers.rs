//! What verifiers hold to be the same answer, pair by pair.

use hearken_config::Verifier;
use hearken_reward_source::{same_answer, verify};

/// Pairs that say the same.
const SAME: &[(&str, &str)] = &[
    // Numbers.
    ("5", "5.0"),
    ("5", "+5"),
    ("-5", "−5"),
    ("1,000", "1000"),
    ("1,234.50", "1234.5"),
    ("1{,}000{,}000", "1000000"),
    (r"1\,000", "1000"),
    ("0.5", ".5"),
    ("007", "7"),
    ("1.2e3", "1200"),
    ("1.2E-3", "0.0012"),
    (r"1.2 \times 10^3", "1200"),
    (r"3 \cdot 10^{-2}", "0.03"),
    ("2×10^4", "20000"),
    ("$42$", "42"),
    (r"\$42", "42"),
    ("-$5", "-5"),
    ("$-5$", "-5"),
    ("42.", "42"),
    (r"\(42\)", "42"),
    ("12345678901234567890123", "12,345,678,901,234,567,890,123"),
    (r"0.\overline{3}", r"\frac13"),
    (r"0.1\overline{6}", "1/6"),
    // Fractions.
    (r"\frac12", r"\frac{1}{2}"),
    (r"\frac12", "0.5"),
    (r"\frac1{2}", "1/2"),
    (r"\dfrac{3}{4}", r"\tfrac34"),
    (r"-\frac{1}{2}", "-0.5"),
    (r"\frac{-1}{2}", r"-\frac{1}{2}"),
    (r"\frac{1}{-2}", r"-\frac{1}{2}"),
    ("3/4", "0.75"),
    ("6/8", "3/4"),
    (r"1\frac{1}{2}", "1.5"),
    (r"-2\frac{1}{3}", "-7/3"),
    ("3 1/2", "3.5"),
    ("½", "0.5"),
    (r"\frac{10}{5}", "2"),
    (r"\frac{\frac12}{3}", "1/6"),
    // Percent.
    (r"50\%", "50"),
    ("50%", r"50\%"),
    ("50%", "0.5"),
    (r"12.5\%", r"\frac18"),
    ("150 percent", "1.5"),
    ("0%", "0"),
    // Units.
    (r"5\text{ cm}", "5"),
    ("5 cm", r"5\,\mathrm{cm}"),
    (r"12 \text{ cm}^2", r"12 \text{ cm}^{2}"),
    ("12 apples", "12"),
    ("3 hours", "3 hrs"),
    ("90°", "90"),
    (r"90^\circ", "90"),
    (r"90^{\circ}", "90 degrees"),
    ("7 meters", "7 m"),
    ("5 km/h", "5"),
    (r"\frac{3}{4}\text{ miles}", "0.75"),
    ("$5 dollars", "5"),
    ("20 square units", "20"),
    // Roots, powers, constants.
    (r"\sqrt{8}", r"2\sqrt{2}"),
    (r"\sqrt2", r"\sqrt{2}"),
    (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}"),
    (r"\sqrt[3]{27}", "3"),
    (r"\sqrt[3]{-8}", "-2"),
    ("sqrt(16)", "4"),
    ("√9", "3"),
    ("2^10", "1024"),
    (r"2^{-3}", "0.125"),
    (r"8^{1/3}", "2"),
    (r"2\pi", r"\pi \cdot 2"),
    ("2π", r"2\pi"),
    ("pi/2", r"\frac{\pi}{2}"),
    (r"e^{\ln 3}", "3"),
    (r"\log_2 8", "3"),
    (r"\log 100", "2"),
    (r"\sin\frac{\pi}{6}", "0.5"),
    (r"\cos(\pi)", "-1"),
    (r"\tan{\frac{\pi}{4}}", "1"),
    ("5!", "120"),
    (r"\binom{5}{2}", "10"),
    ("|-3|", "3"),
    (r"\left|-3\right|", "3"),
    (r"\sqrt{-4}", "2i"),
    ("(1+i)^2", "2i"),
    ("3+4i", "4i+3"),
    // Expressions.
    ("x+1", "1+x"),
    ("2(x+1)", "2x+2"),
    ("x^2-1", "(x-1)(x+1)"),
    (r"x^{2} + 1", "x^2+1"),
    (r"\frac{x}{2}", "0.5x"),
    (r"\frac{x+1}{2}", r"\frac12x+\frac12"),
    ("2xy", "2yx"),
    ("2 x", "2x"),
    (r"\frac{a^2-b^2}{a-b}", "a+b"),
    ("x_1+x_2", "x_2+x_1"),
    (r"x_{1}", "x_1"),
    (r"\sin^2 x + \cos^2 x", "1"),
    (r"\sin 2x", r"2\sin x\cos x"),
    (r"(n+1)n/2", r"\frac{n(n+1)}{2}"),
    (r"e^{x+y}", r"e^xe^y"),
    (r"\alpha\beta", r"\beta\alpha"),
    (r"\left(x+1\right)^2", "x^2+2x+1"),
    // Equations.
    ("x=3", "3"),
    ("x = 3", "x=3.0"),
    (r"x = \frac12", "0.5"),
    ("f(x) = 2x", "2x"),
    ("y=2x+1", "y = 1 + 2x"),
    ("y=2x+1", "2x-y+1=0"),
    ("2x+4y=6", "x+2y=3"),
    ("x = 1 + 2 = 3", "3"),
    (r"x \approx 3.14", "3.14"),
    (r"x = 5\text{ cm}", "5"),
    // Sets and lists.
    (r"\{1,2,3\}", r"\{3, 2, 1\}"),
    (r"\left\{1, 2\right\}", r"\{1,2\}"),
    ("1,2", "1, 2"),
    ("1, 2", "2, 1"),
    ("1,2", r"\{2,1\}"),
    ("1 and 2", "1, 2"),
    (r"2 \text{ or } 3", "3, 2"),
    (r"x = 2 \text{ or } x = 3", "2, 3"),
    ("x=2, x=3", "2,3"),
    (r"\pm 2", "-2, 2"),
    (r"1\pm\sqrt{2}", r"1-\sqrt2, 1+\sqrt2"),
    (r"\emptyset", r"\{\}"),
    (r"\varnothing", "∅"),
    (r"\{5\}", "5"),
    (r"\{1,1,2\}", r"\{1,2\}"),
    ("1, 2, and 3", "1, 2, 3"),
    // Points, intervals, matrices.
    ("(1,2)", "(1, 2)"),
    (r"\left(\frac12, 3\right)", "(0.5,3)"),
    ("(1,2)", "1, 2"),
    ("(1,234)", "( 1, 234 )"),
    ("[1,2)", "[1, 2)"),
    (r"(-\infty, 3]", r"\left(-\infty,3\right]"),
    (r"(-\infty,1)\cup(2,\infty)", r"(2,\infty)\cup(-\infty,1)"),
    (r"x \in [0, 1]", "[0,1]"),
    ("x > 3", r"(3, \infty)"),
    (r"x \le 2", r"(-\infty, 2]"),
    (r"1 \leq x < 4", "[1,4)"),
    ("4 > x ≥ 1", "[1,4)"),
    ("3 < x", "x > 3"),
    (r"\begin{pmatrix}1 & 2\\3 & 4\end{pmatrix}", r"\begin{bmatrix} 1&2 \\ 3&4 \end{bmatrix}"),
    (r"\begin{pmatrix}\frac12\\1\end{pmatrix}", r"\begin{pmatrix}0.5\\1\end{pmatrix}"),
    // Words.
    (r"\text{yes}", "yes"),
    (r"\textbf{Yes}", "yes"),
    (r"\text{(A)}", "A"),
    ("(B)", "B"),
    (r"\mathrm{no solution}", "No  solution"),
    (r"\text{Monday.}", "Monday"),
    // As textbooks and policies write them, too.
    (r"(x,y)=(1,2)", "(1,2)"),
    (r"f^{-1}(x)=2x", "2x"),
    ("f'(x) = 2x", "2x"),
    (r"\angle ABC = 60^\circ", "60"),
    (r"m\angle A = 45", "45"),
    (r"\cos 60^\circ", "0.5"),
    (r"\sin(30^{\circ})", "0.5"),
    (r"x<-1\text{ or }x>1", r"(-\infty,-1)\cup(1,\infty)"),
    (r"\mathbb{R}", r"(-\infty,\infty)"),
    (r"x \in \mathbb{R}", "all real numbers"),
    (r"\langle 1,2\rangle", "(1,2)"),
    ("3 : 4", "3:4"),
    ("10⁻²", "0.01"),
    ("x²", "x^2"),
    (r"\approx 5", "5"),
    ("= 5", "5"),
    (r"5\\", "5"),
    (r"1,\!000", "1000"),
    ("1\u{202f}000", "1000"),
];

/// Pairs that do not.
const DIFFERENT: &[(&str, &str)] = &[
    ("5", "-5"),
    ("-$5", "5"),
    ("5", "6"),
    ("5", "5.1"),
    ("1,000", "100"),
    ("1,000", "1"),
    ("12", "1,2"),
    ("1,2", "12"),
    ("1.2", "1,2"),
    ("1000000000001", "1000000000002"),
    ("12345678901234567890123", "12345678901234567890124"),
    ("2^{200}", "2^{200}+1"),
    ("0.33", r"\frac13"),
    ("0.333333", "1/3"),
    ("3.14", r"\pi"),
    ("1.41", r"\sqrt2"),
    ("3/5", "3/4"),
    ("1/4", "3/4"),
    ("4", "3/4"),
    (r"\frac12", r"\frac21"),
    (r"\frac12", "12"),
    (r"\frac{1}{2}", r"-\frac{1}{2}"),
    (r"1\frac{1}{2}", "0.5"),
    (r"2\frac{x}{3}", r"2+\frac{x}{3}"),
    ("1.2e3", "1.23"),
    ("1.2e3", "12000"),
    ("2e", "2e3"),
    (r"50\%", "51"),
    (r"50\%", "5"),
    ("50%", "0.05"),
    ("0.5", "50"),
    ("5 cm", "5 m"),
    ("5 cm", "6 cm"),
    (r"5\text{ cm}^2", r"5\text{ cm}^3"),
    ("3 hours", "3 minutes"),
    ("5x", "5"),
    ("5m", "5"),
    (r"\sqrt{2}", "2"),
    (r"\sqrt{8}", r"\sqrt{2}"),
    (r"\sqrt[3]{4}", r"\sqrt{4}"),
    ("2^3", "6"),
    ("x^{12}", "x^1 2"),
    (r"2\pi", "6.28"),
    (r"2\pi", r"\pi"),
    ("5!", "5"),
    ("3+4i", "3-4i"),
    ("x+1", "x-1"),
    ("x^2", "2x"),
    ("x", "y"),
    ("xy", "x+y"),
    ("x_1", "x_2"),
    ("2(x+1)", "2x+1"),
    (r"\frac{x}{2}", r"\frac{2}{x}"),
    ("(x+1)^2", "x^2+1"),
    (r"\sin x", r"\cos x"),
    ("|x|", "x^2"),
    ("x=3", "4"),
    ("x=3", "y=3"),
    ("2x=6", "6"),
    ("xy=6", "6"),
    ("2 x", "2"),
    ("x=3", "-3"),
    ("y=2x+1", "y=2x-1"),
    ("y=2x+1", "2x-1"),
    (r"\{1,2\}", r"\{1,3\}"),
    (r"\{1,2\}", r"\{1,2,3\}"),
    (r"\{1,2,3\}", r"\{1,2\}"),
    ("1,2", "1"),
    ("1", "1,2"),
    (r"\pm 2", "2"),
    (r"\emptyset", "0"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("(1,2)", "[1,2)"),
    ("(1,2)", "(1,2,3)"),
    ("(1,2)", "12"),
    (r"(1,2)", r"\{1,2\}x"),
    (r"(-\infty,1)\cup(2,\infty)", r"(-\infty,1)"),
    ("x > 3", "x < 3"),
    ("x > 3", r"x \ge 3"),
    ("x > 3", "3"),
    (r"1 \le x \le 2", "1, 2"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"),
    (r"\text{yes}", r"\text{no}"),
    ("on", "no"),
    ("east", "seat"),
    ("A", "B"),
    (r"\text{(A)}", "(C)"),
    ("yes", "1"),
    ("", "0"),
    ("0", ""),
    ("none", "0"),
    (r"\frac{1}{0}", "0"),
    (r"\frac{1}{0}", r"\frac{2}{0}"),
    ("1 2", "2"),
    ("12 34", "408"),
    (r"\infty", r"-\infty"),
    (r"\infty", "0"),
    (r"\text{2 hours 30 minutes}", "2"),
    ("2.5 hours", "2.5 minutes"),
    ("0.5%", "0.5 cm"),
    ("60", r"\cos 60^\circ"),
    ("x > 1 and x < 3", r"(1,\infty)\cup(-\infty,3)"),
    ("(1,2), (3,4)", r"(1,2)\cup(3,4)"),
    ("1:2", "2:1"),
    ("10⁻²", "102"),
    ("x²", "2x"),
    (r"(x,y)=(1,2)", "(2,1)"),
    (r"\mathbb{R}", r"(0,\infty)"),
];

#[test]
fn answers_that_say_the_same_are_the_same() {
    assert!(150 <= SAME.len() + DIFFERENT.len(), "a table of {}", SAME.len() + DIFFERENT.len());
    let wrong: Vec<_> =
        SAME.iter().filter(|(a, b)| !same_answer(a, b) || !same_answer(b, a)).collect();
    assert!(wrong.is_empty(), "should be the same: {wrong:#?}");
}

#[test]
fn answers_that_differ_are_not_the_same() {
    let wrong: Vec<_> =
        DIFFERENT.iter().filter(|(a, b)| same_answer(a, b) || same_answer(b, a)).collect();
    assert!(wrong.is_empty(), "should differ: {wrong:#?}");
}

#[test]
fn every_answer_is_itself() {
    for answer in SAME.iter().chain(DIFFERENT).flat_map(|(a, b)| [a, b]) {
        assert!(same_answer(answer, answer), "{answer}");
    }
}

/// What a policy writes takes no longer than its length warrants, whatever it is.
#[test]
fn long_and_deep_answers_take_no_time() {
    for unit in [
        "(", "{", r"\{", "[", "-", "|", r"\frac", r"\sqrt", "1,", "1+", "9^", "9^9^", "!", "x",
        "\\", r"\left(", "±1",
    ] {
        for length in [100, 1900, 100_000] {
            let text = unit.repeat(length / unit.len());
            let start = std::time::Instant::now();
            let _ = same_answer(&text, "1,2");
            let _ = same_answer(&text, &text);
            assert!(start.elapsed().as_secs_f64() < 2.0, "{unit:?} {length}");
        }
    }
}

#[test]
fn the_final_number_of_a_text_is_compared_with_its_sign_and_fraction() {
    for (completion, answer, expected) in [
        (" The answer is -5.", "-5", 1.0),
        (" #### 1,234.50", "1234.5", 1.0),
        (" a loss of -$5", "-5", 1.0),
        (" a loss of -$5", "5", 0.0),
        (" a loss of $-5", "-5", 1.0),
        (" #### 3/5", "#### 3/4", 0.0),
        (" #### 3/4", "#### 0.75", 1.0),
        (" it is 1/4", "3/4", 0.0),
        (" it is 6/8", "3/4", 1.0),
        (r" so \frac{3}{4}", "0.75", 1.0),
        (" about 1.2e3 of them", "1200", 1.0),
        (" about 1.2 × 10^3 of them", "1200", 1.0),
        (" 50% of them", "50", 1.0),
        (" 10-3", "3", 1.0),
        (" pages 5–7", "7", 1.0),
        (" it is 1000000000001", "1000000000002", 0.0),
        (" nothing", "0", 0.0),
        (" –4", "-4", 1.0),
        (" –4", "4", 0.0),
        (" -7/-8", "7/8", 1.0),
        (r" 1{,}000", "1000", 1.0),
        (r" 12\,345", "12345", 1.0),
        (" 1\u{202f}000\u{202f}000", "1000000", 1.0),
    ] {
        let found = verify(Verifier::Numeric, completion, answer);
        assert!((found - expected).abs() < 1e-12, "{completion:?} against {answer:?}: {found}");
    }
}

#[test]
fn the_last_box_is_the_answer() {
    for (completion, answer, expected) in [
        (r" \boxed{12}", "1,2", 0.0),
        (r" \boxed{1,2}", "12", 0.0),
        (r" \boxed{1,000}", "1000", 1.0),
        (r" \boxed{-\frac{1}{2}}", "-0.5", 1.0),
        (r" \boxed{\text{yes}}", "yes", 1.0),
        (r" \boxed{50\%}", "50", 1.0),
        (r" \boxed{\frac12}", r"\frac{1}{2}", 1.0),
        (r" \boxed{\{1,2\}}", r"\boxed{\{2,1\}}", 1.0),
        (r" \boxed{\left\{ x \mid x > 2 \right.}", "2", 0.0),
        (r" \boxed 5.", "5", 1.0),
        (r" \fbox{7}", "7", 1.0),
        (r" \boxed{1} or \boxed{2}", "1", 0.0),
        (r" \boxed{x = 3}", "3", 1.0),
        (" 5", "5", 0.0),
    ] {
        let found = verify(Verifier::Boxed, completion, answer);
        assert!((found - expected).abs() < 1e-12, "{completion:?} against {answer:?}: {found}");
    }
}
