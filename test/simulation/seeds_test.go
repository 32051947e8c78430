package simulation

// seeds is how many worlds a test run looks at.
const seeds = 200
