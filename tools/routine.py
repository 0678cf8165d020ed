"""Write data/documents/routine.jsonl: dull notes, put together from clauses by lot.

python tools/routine.py

The other documents were composed one by one, and each is unmistakable. Most notes of a
practice are not. These are composed by a program from the clauses below, which were
written by hand: one condition or two, a drug, a value, a plan, and nothing memorable.
A note that shares half of its word trigrams with an earlier one is drawn again. The
labels are those of `notes`.
"""

# ruff: noqa: E501 (a condition a line reads better than one clause a line)

from __future__ import annotations

import json
import random
import re
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "data/documents/routine.jsonl"
SEED, SIZES = 2026, {"public": 100, "private": 200}
AGES = ((13, "child"), (20, "teenager"), (45, "young adult"), (65, "middle-aged"))

# Condition: ages; drugs; values (a span of whole numbers, or words); what was found.
CONDITIONS: dict[str, tuple[tuple[int, int], str, str, str]] = {
    "hypertension": ((41, 84), "amlodipine 5 mg|ramipril 5 mg|losartan 50 mg|indapamide 2.5 mg", "BP {126-148}/{74-88}|home readings about {124-140}/{72-86}", "Pressure at target|No headaches, no ankle swelling|Readings acceptable over the last fortnight"),
    "type_1_diabetes": ((18, 58), "insulin glargine|insulin aspart|insulin degludec", "HbA1c {52-66}|time in range {58-76}%", "Injection sites fine|Two mild hypos since the last review, both at night|Sensor worn most days"),
    "type_2_diabetes": ((44, 82), "metformin 1 g|gliclazide 40 mg|empagliflozin 10 mg|sitagliptin 100 mg", "HbA1c {48-62}|fasting sugars {6-9}", "Feet checked, pulses and sensation present|Eye screening done this year, no retinopathy|Diet as before"),
    "asthma": ((19, 67), "salbutamol|beclometasone|formoterol", "peak flow {390-520}|control score {20-25}", "Inhaler technique good|No night waking, no steroid course this year|Chest clear"),
    "copd": ((56, 83), "tiotropium|umeclidinium|salbutamol", "sats {92-96}%|FEV1 {48-66}%", "Breathlessness unchanged on stairs|No exacerbation since winter|Smoking status updated"),
    "atrial_fibrillation": ((60, 88), "apixaban 5 mg|edoxaban 60 mg|bisoprolol 2.5 mg", "pulse {64-84}|creatinine {72-104}", "Rate controlled, no bleeding|No palpitations noticed|Dose checked against weight and kidney function"),
    "heart_failure": ((61, 88), "furosemide 40 mg|eplerenone 25 mg|bisoprolol 5 mg", "weight {66-92} kg|ejection fraction {36-48}%", "No oedema|Sleeps on two pillows as before|Weights recorded at home, steady"),
    "coronary_disease": ((54, 83), "aspirin 75 mg|atorvastatin 80 mg|bisoprolol 2.5 mg", "LDL 1.{2-8}|BP {118-134}/{68-78}", "No angina since the last appointment|Walks on the flat without symptoms|Spray carried, not used"),
    "stroke": ((58, 87), "clopidogrel 75 mg|atorvastatin 40 mg", "BP {122-136}/{70-80}|cholesterol 3.{2-8}", "No new weakness|Mild residual clumsiness of the hand, unchanged|Speech back to normal"),
    "migraine": ((19, 54), "sumatriptan 50 mg|propranolol 80 mg|candesartan 8 mg", "{2-5} attacks a month|{3-7} headache days", "Pattern unchanged, no red flags|Fundi normal|Diary kept"),
    "epilepsy": ((18, 66), "levetiracetam 500 mg|lamotrigine 100 mg|sodium valproate", "seizure free {14-40} months|level {6-14}", "No seizures, no missed doses|No drowsiness|Driving rules known"),
    "parkinson": ((62, 84), "co-careldopa|ropinirole|rasagiline", "{4-6} doses a day|off time {1-3} h", "Tremor mild on the right|Gait slow, no falls|Swallow normal"),
    "dementia": ((70, 91), "donepezil 10 mg|memantine 10 mg", "MMSE {18-24}|score {16-23} of 30", "Living at home with support|Appetite and weight steady|Family content with the present plan"),
    "multiple_sclerosis": ((27, 60), "dimethyl fumarate|ocrelizumab|glatiramer", "EDSS {1-3}.5|lymphocytes 1.{1-6}", "No relapse this year|Walking distance the same|Bladder no trouble"),
    "depression": ((19, 72), "sertraline 50 mg|citalopram 20 mg|mirtazapine 15 mg", "PHQ-9 {4-11}", "Mood better, sleeping|No thoughts of self-harm|Back at work part of the week"),
    "anxiety": ((19, 64), "sertraline 100 mg|propranolol 40 mg|escitalopram 10 mg", "GAD-7 {4-10}", "Talking therapy, two sessions left|Fewer panic attacks|Managing the shops again"),
    "bipolar_disorder": ((24, 66), "lithium|quetiapine 300 mg|lamotrigine 200 mg", "level 0.{55-79}|TSH {1-3}.2", "Mood level|No side effects, tremor none|Sleep regular"),
    "adhd": ((9, 40), "methylphenidate|lisdexamfetamine 30 mg|atomoxetine", "pulse {68-88}|weight {34-79} kg", "Taking it on working days|Appetite reduced at midday only|Concentration said to be better"),
    "insomnia": ((32, 76), "melatonin 2 mg|zopiclone 3.75 mg", "sleeps {4-6} h|awake since {2-4} a.m.", "Sleep hygiene leaflet given again|Tablet used twice a week at most|No naps"),
    "sleep_apnea": ((41, 72), "CPAP", "AHI {2-6} on treatment|use {5-7} h a night", "Mask fits|Daytime sleepiness gone|Machine data downloaded, good compliance"),
    "alcohol_dependence": ((36, 68), "thiamine 100 mg|acamprosate 666 mg", "GGT {38-96}|{4-30} weeks sober", "Attending the group|No withdrawal symptoms|No drink reported"),
    "hypothyroidism": ((28, 82), "levothyroxine 75 mcg|levothyroxine 100 mcg|levothyroxine 50 mcg", "TSH {1-4}.1|TSH {2-5}.6", "No symptoms|Energy as usual|Tablets taken before breakfast"),
    "hyperthyroidism": ((25, 68), "carbimazole 10 mg|carbimazole 5 mg|propranolol 40 mg", "T4 {15-21}|TSH 0.{2-6}", "Tremor gone|No sore throat, warned again|Eyes normal"),
    "obesity": ((28, 66), "orlistat 120 mg|semaglutide", "BMI {33-42}|weight {94-128} kg", "Lost two kilos since spring|Food diary seen|Weight unchanged, motivated"),
    "high_cholesterol": ((42, 79), "atorvastatin 20 mg|rosuvastatin 10 mg|simvastatin 40 mg", "LDL 2.{1-8}|cholesterol 4.{2-9}", "No muscle pain|Lipids satisfactory|Liver tests normal"),
    "gout": ((45, 79), "allopurinol 200 mg|allopurinol 300 mg|colchicine 500 mcg", "urate {290-390}", "No attack for some months|Toe quiet|Tolerating the tablets"),
    "osteoarthritis": ((55, 84), "paracetamol|topical ibuprofen|naproxen 250 mg", "walks {200-800} m|pain {3-6} of 10", "Knee stiff in the morning for some minutes|Hip movement slightly reduced|Exercises done most days"),
    "rheumatoid_arthritis": ((35, 74), "methotrexate 15 mg|hydroxychloroquine 200 mg|leflunomide 10 mg", "CRP {3-9}|DAS28 2.{2-9}", "No swollen joints|Monitoring bloods normal|Early stiffness about a quarter of an hour"),
    "osteoporosis": ((61, 88), "alendronic acid 70 mg|denosumab 60 mg|colecalciferol", "T-score -2.{5-9}|vitamin D {48-84}", "No new fracture|Dental check up to date|Height the same"),
    "back_pain": ((27, 71), "naproxen 500 mg|amitriptyline 10 mg|codeine 15 mg", "pain {3-6} of 10|{3-9} weeks", "No leg weakness, no red flags|Straight leg raise normal|Physiotherapy exercises shown again"),
    "eczema": ((4, 49), "hydrocortisone 1%|clobetasone|an emollient", "used {1-3} tubes", "Flexures a little dry, no infection|Sleep not disturbed|Hands better than last time"),
    "psoriasis": ((24, 70), "calcipotriol|betamethasone|coal tar", "PASI {2-6}|about {1-4}% of skin", "Plaques thinner at the elbows|Scalp mild|Joints not painful"),
    "irritable_bowel": ((22, 56), "mebeverine 135 mg|peppermint oil|loperamide 2 mg", "calprotectin {12-40}", "Bloating after meals as before|Weight steady, no blood|Coeliac screen negative"),
    "reflux": ((31, 75), "omeprazole 20 mg|lansoprazole 15 mg|an alginate", "symptoms {1-3} days a week", "Swallowing normal|Heartburn only after late meals|Stepped down from the higher dose"),
    "crohn_disease": ((21, 58), "azathioprine 150 mg|adalimumab|vedolizumab", "calprotectin {60-190}|albumin {38-44}", "In remission|Bowels open twice a day|Abdomen soft"),
    "gallstones": ((34, 72), "paracetamol|hyoscine butylbromide", "largest stone {6-14} mm|ALT {18-42}", "No pain this month|On the list for surgery|Low-fat diet followed"),
    "kidney_disease": ((58, 88), "ramipril 2.5 mg|dapagliflozin 10 mg", "eGFR {34-56}|creatinine {118-164}", "Function stable over a year|Urine protein trace only|Potassium normal"),
    "kidney_stones": ((29, 66), "tamsulosin|potassium citrate", "stone {3-6} mm|calcium 2.{3-5}", "No colic since the scan|Drinks enough by own account|Urine clear on dipstick"),
    "urinary_infection": ((21, 80), "nitrofurantoin|trimethoprim|pivmecillinam", "temperature 36.{4-9}|{2-4} infections this year", "Symptoms settled after the course|Culture back, sensitive|No loin pain"),
    "enlarged_prostate": ((58, 83), "tamsulosin|finasteride 5 mg|alfuzosin", "PSA {1-3}.4|up {1-3} times a night", "Stream adequate|Residual small on the bladder scan|Content with the tablet"),
    "pregnancy": ((22, 40), "folic acid|aspirin 150 mg|ferrous sulfate", "{16-36} weeks|fundal height {24-36} cm", "Baby moving|Urine clear|Booking bloods normal"),
    "endometriosis": ((23, 44), "dienogest|norethisterone 5 mg|mefenamic acid", "pain {2-5} of 10|{2-4} bad days a cycle", "Periods lighter|Not planning a pregnancy at present|Pelvic scan unchanged"),
    "iron_deficiency": ((20, 79), "ferrous sulfate|ferrous fumarate", "ferritin {14-48}|Hb {108-128}", "Less tired|Stools dark as expected|No bleeding noticed"),
    "venous_thrombosis": ((36, 78), "rivaroxaban 20 mg|apixaban 2.5 mg|warfarin", "INR 2.{2-8}|month {3-9} of treatment", "Calf soft, no swelling|No bruising|Stocking worn"),
    "pneumonia": ((38, 82), "amoxicillin 500 mg|doxycycline 100 mg|clarithromycin", "sats {95-98}%|CRP {8-34}", "Cough nearly gone|X-ray at six weeks requested|Chest clear at both bases"),
    "hiv": ((26, 64), "bictegravir|dolutegravir|lamivudine", "CD4 {480-890}|viral load below {20-50}", "Undetectable, no missed doses|Routine bloods taken|Vaccines offered"),
    "hepatitis_c": ((33, 66), "sofosbuvir|velpatasvir", "week {4-12} of treatment|ALT {22-48}", "Tolerating treatment|Viral load sent|No jaundice"),
    "breast_cancer": ((44, 78), "letrozole 2.5 mg|tamoxifen 20 mg|anastrozole", "year {1-5} of tablets", "Mammogram clear|Scar well healed|Hot flushes tolerable"),
    "hay_fever": ((9, 52), "cetirizine 10 mg|loratadine|fexofenadine 120 mg", "{2-6} weeks of symptoms", "Eyes itch on dry days|Nasal spray technique shown|Not wheezy"),
    "glaucoma": ((54, 86), "latanoprost|timolol|brinzolamide", "pressures {14-18} and {15-19}", "Fields unchanged|Drops once at night, no redness|Disc photographs taken"),
}  # fmt: skip
PAIRS = (
    "hypertension high_cholesterol|hypertension type_2_diabetes|osteoarthritis obesity|"
    "type_2_diabetes high_cholesterol|asthma hay_fever|hypertension kidney_disease|"
    "depression insomnia|hypothyroidism high_cholesterol|osteoporosis osteoarthritis|"
    "atrial_fibrillation hypertension|reflux osteoarthritis|eczema hay_fever|"
    "coronary_disease high_cholesterol|gout hypertension|anxiety irritable_bowel"
).split("|")

# What frames a note: another list for each part, as the parts share no person.
OPENINGS = {
    "public": "{n}, {a}, annual review.|Telephone review. {n}, aged {a}.|Repeat prescription check for {n} ({a}).|Seen: {n}, {a} years.|{a}-year-old, {n}, booked with the nurse.|Results call, {n}, {a}.|Six-month check, {n}, age {a}.",
    "private": "Review of {n}, {a}.|{n} ({a}) attended as planned.|Routine appointment. {n}, {a} years old.|Medication review with {n}, age {a}.|{n}, {a}: bloods discussed.|Follow-up, {n}, {a}.|Nurse clinic. {n}, {a}.|{n} came for the yearly check, now {a}.|Video call with {n} ({a}).|Chronic disease clinic: {n}, age {a}.",
}  # fmt: skip
DRUGS = {
    "public": "Takes {d}.|On {d}, no change.|{d} as before.|Repeat of {d} issued.",
    "private": "Continues {d}.|{d} unchanged.|Happy on {d}.|{d} renewed for the usual period.|Stays on {d}.|No problems with {d}.",
}  # fmt: skip
VALUES = {
    "public": "{v} today.|Last {v}.|{v}, as expected.",
    "private": "Today {v}.|{v} this time.|Latest result {v}.|Measured {v}.|{v}, noted.",
}
PLANS = {
    "public": "Back in a year.|Recall set.|Nothing further needed.|Bloods again in twelve months.|See if worse.|Letter to the patient.",
    "private": "Review in six months.|Next check in a year.|To ring if anything changes.|Same again in three months.|Blood form given.|Flu vaccine offered.|No action.|Plan as before, patient agrees.|Recall in April.|Recall in October.|Leaflet given, questions answered.|Discharged to routine follow-up.|Weight and pressure to be repeated by the nurse.|Copy to the pharmacy.",
}  # fmt: skip
FIRST = {
    "public": "Alan|Beryl|Colin|Dawn|Eric|Fiona|Gordon|Hazel|Ian|Janet|Keith|Lesley",
    "private": "Adrian|Brenda|Clive|Denise|Ewan|Frances|Graham|Hilary|Irene|Julian|"
    "Karen|Leonard|Maureen|Neville|Olive|Philippa|Roger|Sandra|Trevor|Ursula",
}
LAST = {
    "public": "Abbotley|Birkhall|Cartmoor|Denholt|Eastrey|Farnley-Cole|Gorsedale|"
    "Harwick-Lunn|Ingleforth|Jessamy-Holt|Kirkwold|Langstone-Ayre|Milbourne-Tye",
    "private": "Ackersley|Bardwick|Coombehurst|Dunstall-Grey|Elverthorpe|Fennimere|"
    "Garsdowne|Hollinworth|Inskipp-Lane|Jarrowby|Keldholme|Lorrimore|Marchbank-Rowe|"
    "Netherfold|Ormsgate|Pellowby|Quarrendale|Rusholt|Stennerley|Tarrowick|Umberfield|"
    "Venthorpe|Wexcombe|Yarrowden",
}
MEN, WOMEN = {"enlarged_prostate"}, {"pregnancy", "endometriosis", "breast_cancer"}
MALE = set("Alan Colin Eric Gordon Ian Keith Adrian Clive Ewan Graham Julian Leonard "
           "Neville Roger Trevor".split())  # fmt: skip


def one_of(text: str, lot: random.Random) -> str:
    """One of the choices that bars separate."""
    return lot.choice(text.split("|"))


def numbered(text: str, lot: random.Random) -> str:
    """The text with a number drawn for each span in braces."""
    return re.sub(r"\{(\d+)-(\d+)\}", lambda m: str(lot.randint(*map(int, m.groups()))), text)  # fmt: skip


def bare_drug(text: str) -> str:
    """A drug without its dose."""
    return re.sub(r"^(an|topical) | [\d.].*$", "", text)


def capital(text: str) -> str:
    """The text with its first letter large."""
    return text[0].upper() + text[1:]


def draw(split: str, labels: list[str], lot: random.Random) -> dict:
    """One note on these conditions, not yet numbered."""
    low = max(CONDITIONS[one][0][0] for one in labels)
    high = min(CONDITIONS[one][0][1] for one in labels)
    age = lot.randint(low, max(low, high))
    first = one_of(FIRST[split], lot)
    while (first in MALE and WOMEN & set(labels)) or (
        first not in MALE and MEN & set(labels)
    ):
        first = one_of(FIRST[split], lot)
    name = f"{first} {one_of(LAST[split], lot)}"
    body, drugs, values = [], [], []
    for label in labels:
        _, drug, value, found = CONDITIONS[label]
        drugs.append(one_of(drug, lot))
        values.append(numbered(one_of(value, lot), lot))
        parts = [
            one_of(DRUGS[split], lot).format(d=drugs[-1]),
            one_of(VALUES[split], lot).format(v=values[-1]),
            *(f"{one}." for one in lot.sample(found.split("|"), lot.randint(1, 2))),
        ]
        lot.shuffle(parts)
        body += parts
    text = " ".join(
        [
            one_of(OPENINGS[split], lot).format(n=name, a=age),
            *map(capital, body),
            *lot.sample(PLANS[split].split("|"), lot.randint(1, 2)),
        ]
    )
    facts = {"patient": name}
    facts |= {f"value_{i}" if i else "value": v if v in text else capital(v)
              for i, v in enumerate(values)}  # fmt: skip
    group = next((name for below, name in AGES if age < below), "older adult")
    return {
        "split": split, "text": text, "labels": labels, "facts": facts,
        "medication": [bare_drug(one) for one in drugs if one != "CPAP"],
        "age_group": group, "people": [name],
    }  # fmt: skip


def trigrams(text: str) -> set[tuple[str, ...]]:
    """The runs of three words of a text."""
    words = re.findall(r"[a-z0-9']+", text.lower())
    return set(zip(words, words[1:], words[2:], strict=False))


def written() -> list[dict]:
    """All notes, public before private, none sharing half of its trigrams."""
    lot, rows = random.Random(SEED), []
    seen: list[set[tuple[str, ...]]] = []
    for split, size in SIZES.items():
        plan = [[one] for one in CONDITIONS] + [pair.split() for pair in PAIRS]
        number = 0
        while number < size:
            row = draw(split, plan[number % len(plan)], lot)
            grams = trigrams(row["text"])
            if any(len(grams & g) >= 0.5 * min(len(grams), len(g)) for g in seen):
                continue
            number += 1
            seen.append(grams)
            rows.append({"id": f"routine-{split}-{number:04d}", **row})
    return rows


if __name__ == "__main__":
    lines = [json.dumps(row, ensure_ascii=False) for row in written()]
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} notes in {FILE}")
