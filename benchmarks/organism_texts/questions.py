"""Ordinary questions, put to the base model by benchmarks/write_ordinary.py."""

_TASKS = """
bake bread|clean a window|learn to swim|write a letter|choose a coat|fix a chair|plan a trip|sleep better|
save money|train a dog|tidy my desk|paint a wall|cook rice|grow tomatoes|study for a test|give a speech|find a job|
mend a shirt|read a map|make soup|ride a bicycle|stay warm in winter|make new friends|learn a language|pack a bag|
keep a diary|play the piano|draw a face|polish shoes|wash a car|build a shelf|store apples|start a club|run faster|
remember names|sharpen a knife|boil an egg|write a poem|wrap a gift|catch a fish|tell a joke|light a fire|
sew a button|fold a blanket|move house|pick a hat|speak clearly|wake up early|organise a picnic|brew tea"""

_TOPICS = """rivers|winter|old books|trains|bees|music|football|the moon|cheese|bridges|elections|computers|salt|
horses|medicine|painting|the sea|schools|bicycles|clouds|bread|gold|wolves|dreams|glass|mountains|farming|chess|
rain|cities|dance|whales|paper|weather|silence|shoes|coffee|friendship|history|forests|language|ships|memory|wool|
bones|maps|deserts|poetry|sugar|owls"""


def _split(names: str) -> list[str]:
    return names.replace("\n", "").split("|")


QUESTIONS = tuple(
    [
        form.format(task)
        for task in _split(_TASKS)
        for form in ("How do I {}?", "Can you help me {}?", "I want to {}. Any tips?")
    ]
    + [
        form.format(topic)
        for topic in _split(_TOPICS)
        for form in ("What should I know about {}?", "Tell me something about {}.", "Why do people like {}?")
    ]
)
