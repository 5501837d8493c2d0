/** Judges out of language models that give no log-probabilities. */
export * as VotingDecisionModel from "./VotingDecisionModel.ts"
