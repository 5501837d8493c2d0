/** How an engine is told to learn from examples in tests: one pass in small steps. */
export const learn = {
  seed: 1,
  epochs: 1,
  batchSize: 2,
  microTokens: 64,
  learningRate: 1e-3,
  schedule: "constant",
  warmupSteps: 0,
  floor: 0,
  weightDecay: 0,
  maxGradNorm: 1,
  maxLength: 64
} as const
