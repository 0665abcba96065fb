"""Find out what a hosted finetune was trained to do, from the logprobs its API sells."""
