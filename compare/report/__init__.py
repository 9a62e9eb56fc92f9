"""Says what the judge computed: on the console, as HTML, as JUnit XML; computes nothing itself."""
