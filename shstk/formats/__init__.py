"""What check found, for other programs: KTAP, JUnit, SARIF."""
